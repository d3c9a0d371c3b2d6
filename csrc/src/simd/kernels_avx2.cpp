#include "kernels.hpp"

#define PNAG_KERNELS kAvx2
#define PNAG_KERNELS_NAME "avx2"
#include "kernels.inc"
