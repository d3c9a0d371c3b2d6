#include "kernels.hpp"

#define PNAG_KERNELS kPortable
#if defined(__aarch64__)
#define PNAG_KERNELS_NAME "neon"  // every aarch64 has it, so compilers use it unasked
#else
#define PNAG_KERNELS_NAME "portable"
#endif
#include "kernels.inc"
