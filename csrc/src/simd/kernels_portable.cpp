#include "kernels.hpp"

#define PNAG_KERNELS kPortable
#define PNAG_KERNELS_NAME "portable"
#include "kernels.inc"
