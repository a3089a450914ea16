#pragma once

#include <stddef.h>

namespace paceline::optimizer {

/// All that an update of one piece needs, in f32: computed once in f64 by the caller.
struct Coefficients {
  float gradient_scale;  ///< on every gradient, before anything else
  float learning_rate;
  float momentum;
  float weight_decay;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;           ///< adamw: learning rate / (1 - beta1^t)
  float root_of_correction;  ///< adamw: sqrt(1 - beta2^t)
  float epsilon;
  bool nesterov;
};

/// Arrays of the same `count` places; `second` only for adamw. Gives the gradients' sum of squares.
struct Arrays {
  float* parameters;
  const float* gradients;
  float* first;
  float* second;
  size_t count;
};

struct Kernels {
  /// The sum of squares alone, in the order in which an update adds it up.
  double (*squares)(const float* values, size_t count);
  double (*sgd)(const Arrays&, const Coefficients&);
  double (*plain_sgd)(const Arrays&, const Coefficients&);  ///< without momentum, of which nothing is kept
  double (*adamw)(const Arrays&, const Coefficients&);
};

namespace generic {
Kernels kernels();
}
namespace avx2 {
Kernels kernels();
}
namespace avx512 {
Kernels kernels();
}

}  // namespace paceline::optimizer
