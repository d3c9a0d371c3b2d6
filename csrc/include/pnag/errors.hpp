// Errors that a caller can cause. The bindings turn them into Python classes.
#pragma once

#include <stdexcept>
#include <string>

namespace pnag {

/// A value that the caller passed cannot be used. The message is complete: what was wrong, where,
/// and what is allowed.
class InvalidInput : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

}  // namespace pnag
