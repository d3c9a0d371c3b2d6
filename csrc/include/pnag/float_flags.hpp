// What the floating-point unit says about the operations of a thread.
//
// Processors keep a flag for every kind of exception; reading it costs a few cycles, however many
// operations there were. Without a flag, additions and products rounded as if exponents had no
// bounds.
#pragma once

namespace pnag::float_flags {

inline constexpr unsigned kOverflow = 1;   ///< something finite became infinite
inline constexpr unsigned kUnderflow = 2;  ///< something lost digits, or all, to be that small

/// The flags that stand in this thread.
[[nodiscard]] unsigned read();

/// Let exactly these flags stand.
void write(unsigned flags);

/// Watches the flags of this thread from its making on; whoever looked before finds his own again.
class Watch {
  public:
    Watch() : before_(read()) { write(0); }
    ~Watch() { write(before_); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    /// Flags since the watch began, those of `parallel_for`'s threads included.
    [[nodiscard]] unsigned raised() const { return read(); }

  private:
    unsigned before_;
};

}  // namespace pnag::float_flags
