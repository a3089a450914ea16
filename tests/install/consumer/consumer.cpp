// Somebody else's program: adds up its rank + 1 over all ranks, told by the environment who it is.

#include <paceline/allreduce.hpp>

#include <cstdio>

int main() {
  auto communicator = paceline::Communicator::from_environment();
  if (!communicator.ok()) {
    std::fprintf(stderr, "%s\n", communicator.error().message.c_str());
    return 1;
  }
  double sum = communicator->rank() + 1;
  const paceline::Status status = communicator->all_reduce(&sum, 1, paceline::DataType::f64);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    return 1;
  }
  std::printf("rank %d of %d: %g\n", communicator->rank(), communicator->size(), sum);
}
