// Law of numbers (docs/numerics.md): rounding, saturation, division. Shared by the engine and the vector stages.
#pragma once

#include <ap_int.h>

#include <cstdint>

namespace bertile {

// Division by 2^shift, halves toward plus infinity.
inline int64_t RoundingShift(int64_t value, int shift) {
#pragma HLS INLINE
  const int64_t half = shift > 0 ? int64_t(1) << (shift - 1) : 0;
  return (value + half) >> shift;
}

inline int64_t Clamp(int64_t value, int64_t low, int64_t high) {
#pragma HLS INLINE
  return value < low ? low : (value > high ? high : value);
}

inline int64_t SaturateTo(int64_t value, int bits) {
#pragma HLS INLINE
  return Clamp(value, -(int64_t(1) << (bits - 1)), (int64_t(1) << (bits - 1)) - 1);
}

// Restoring division, one quotient bit a step. The quotient must fit QuotientBits.
template <int QuotientBits, int DenominatorBits>
inline ap_uint<QuotientBits> Divide(ap_uint<QuotientBits + DenominatorBits> numerator,
                                    ap_uint<DenominatorBits> denominator) {
#pragma HLS INLINE
  typedef ap_uint<QuotientBits + DenominatorBits> Rest;
  Rest rest = numerator;
  ap_uint<QuotientBits> quotient = 0;
Quotient_Bit:
  for (int bit = QuotientBits - 1; bit >= 0; --bit) {
#pragma HLS UNROLL
    const Rest trial = Rest(denominator) << bit;
    if (rest >= trial) {
      rest -= trial;
      quotient[bit] = 1;
    }
  }
  return quotient;
}

}  // namespace bertile
