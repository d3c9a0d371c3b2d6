#include "pnag/float_flags.hpp"

#if defined(__SSE2_MATH__) || defined(_M_X64)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace pnag::float_flags {

// Functions of a file of their own: compilers do not move arithmetic across calls they cannot see
// into.
#if defined(__SSE2_MATH__) || defined(_M_X64)

// <cfenv> also saves and loads the old unit of 80 bits, which takes longer than a small kernel.
unsigned read() {
    const unsigned state = _mm_getcsr();
    return ((state & _MM_EXCEPT_OVERFLOW) != 0 ? kOverflow : 0U) |
           ((state & _MM_EXCEPT_UNDERFLOW) != 0 ? kUnderflow : 0U);
}

void write(unsigned flags) {
    constexpr unsigned kBoth = _MM_EXCEPT_OVERFLOW | _MM_EXCEPT_UNDERFLOW;
    _mm_setcsr((_mm_getcsr() & ~kBoth) | ((flags & kOverflow) != 0 ? _MM_EXCEPT_OVERFLOW : 0U) |
               ((flags & kUnderflow) != 0 ? _MM_EXCEPT_UNDERFLOW : 0U));
}

#else

unsigned read() {
    return (std::fetestexcept(FE_OVERFLOW) != 0 ? kOverflow : 0U) |
           (std::fetestexcept(FE_UNDERFLOW) != 0 ? kUnderflow : 0U);
}

void write(unsigned flags) {
    std::feclearexcept(FE_OVERFLOW | FE_UNDERFLOW);
    if ((flags & kOverflow) != 0) std::feraiseexcept(FE_OVERFLOW);
    if ((flags & kUnderflow) != 0) std::feraiseexcept(FE_UNDERFLOW);
}

#endif

}  // namespace pnag::float_flags
