// Stands in for the GPU driver's libnvidia-ml.so.1 in tests. FAKE_NVML_GPUS says how many GPUs there are (default 2); in pairs
// (0 and 1, 2 and 3, ...) they are linked. FAKE_NVML_MIG=1 cuts GPU 0 into two slices; FAKE_NVML_BROKEN=1 fails to start.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { not_found = 6, driver_not_loaded = 9 };

typedef struct {
  unsigned long long total, free, used;
} Memory;

typedef struct {
  char legacy_name[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char name[32];
} PciInfo;

static int flag(const char* name) {
  const char* text = getenv(name);
  return text ? atoi(text) : 0;
}

static unsigned gpus(void) { return getenv("FAKE_NVML_GPUS") ? (unsigned)flag("FAKE_NVML_GPUS") : 2; }

// Handles are numbers: a GPU's place and one more, and in thousands its slice and one more.
static void* handle(unsigned gpu, unsigned slice) { return (void*)(uintptr_t)(1000 * slice + gpu + 1); }
static unsigned gpu_of(void* device) { return (unsigned)((uintptr_t)device % 1000) - 1; }
static unsigned slice_of(void* device) { return (unsigned)((uintptr_t)device / 1000); }

int nvmlInit_v2(void) { return flag("FAKE_NVML_BROKEN") ? driver_not_loaded : 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int code) { return code == driver_not_loaded ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  snprintf(text, size, "535.104.05");
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = gpus();
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = handle(index, 0);
  return index < gpus() ? 0 : not_found;
}
int nvmlDeviceGetName(void* device, char* text, unsigned size) {
  snprintf(text, size, "Fake H100%s", slice_of(device) ? " MIG 3g.40gb" : "");
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* text, unsigned size) {
  if (slice_of(device))
    snprintf(text, size, "MIG-%08u-%u", gpu_of(device), slice_of(device));
  else
    snprintf(text, size, "GPU-%08u", gpu_of(device));
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  memory->total = (slice_of(device) ? 40ULL : 80ULL) << 30;
  memory->used = 1ULL << 30;
  memory->free = memory->total - memory->used;
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void* device, PciInfo* pci) {
  memset(pci, 0, sizeof *pci);
  pci->domain = 0xffff;  // that no machine has
  pci->bus = gpu_of(device);
  return 0;
}
int nvmlDeviceGetP2PStatus(void* one, void* other, int capability, int* status) {
  *status = capability == 2 && gpu_of(one) / 2 == gpu_of(other) / 2 ? 0 : 5;
  return 0;
}
int nvmlDeviceGetMigMode(void* device, unsigned* current, unsigned* pending) {
  *current = *pending = flag("FAKE_NVML_MIG") && gpu_of(device) == 0;
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void* device, unsigned* count) {
  (void)device;
  *count = 7;
  return 0;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void* device, unsigned index, void** slice) {
  *slice = handle(gpu_of(device), index + 1);
  return index < 2 ? 0 : not_found;
}
