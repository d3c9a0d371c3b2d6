#include "kernels.hpp"

#define PNAG_KERNELS kAvx512
#define PNAG_KERNELS_NAME "avx512"
#include "kernels.inc"
