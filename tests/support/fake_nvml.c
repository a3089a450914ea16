// Stands in for the GPU driver's libnvidia-ml.so.1 in tests. FAKE_NVML_GPUS says how many GPUs there are (default 2); in pairs
// (0 and 1, 2 and 3, ...) they are linked. FAKE_NVML_MIG=1 cuts GPU 0 into two slices, 2 into none; FAKE_NVML_BROKEN=1 fails to start.
// FAKE_NVML_LOST says which GPU does not answer; on the host that PACELINE_FAKE_NVML_NONE_ON names there is none.
// FAKE_NVML_SENSORS: "lost" ones give errors, "absurd" ones what no GPU can have; GPU i is busy for 40 + i percent of the time.
#define _DEFAULT_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { not_supported = 3, not_found = 6, driver_not_loaded = 9, gpu_is_lost = 15 };

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

static unsigned gpus(void) {
  const char* without = getenv("PACELINE_FAKE_NVML_NONE_ON");
  char host[64] = "";
  gethostname(host, sizeof host - 1);
  if (without && strcmp(without, host) == 0) return 0;
  return getenv("FAKE_NVML_GPUS") ? (unsigned)flag("FAKE_NVML_GPUS") : 2;
}

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
  if (getenv("FAKE_NVML_LOST") && (unsigned)flag("FAKE_NVML_LOST") == index) return gpu_is_lost;
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
static int sensors_are(const char* word) {
  const char* text = getenv("FAKE_NVML_SENSORS");
  return text && !strcmp(text, word);
}
// Slices have a memory of their own, and nothing else.
static int read_sensor(void* device) {
  if (sensors_are("lost")) return gpu_is_lost;
  return slice_of(device) ? not_supported : 0;
}
typedef struct {
  unsigned gpu, memory;
} Utilization;
int nvmlDeviceGetUtilizationRates(void* device, Utilization* percent) {
  percent->gpu = sensors_are("absurd") ? 4000 : 40 + gpu_of(device);
  percent->memory = 10;
  return read_sensor(device);
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  *milliwatts = sensors_are("absurd") ? UINT32_MAX : 310500;
  return read_sensor(device);
}
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
  *celsius = sensors_are("absurd") ? UINT32_MAX : 61;
  return sensor != 0 ? not_supported : read_sensor(device);
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  static unsigned long long total = 9000500;
  total += 1000;
  *millijoules = sensors_are("absurd") ? UINT64_MAX : total;
  return read_sensor(device);
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
  return index < 2 && flag("FAKE_NVML_MIG") == 1 ? 0 : not_found;
}
