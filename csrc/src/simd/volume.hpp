// Kernels on volumes in three objectives.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pnag::simd {

/// Most points that covered_space takes and that free_space can see from one point. Quadratic work
/// on so few is vectorised and has no branches to guess.
inline constexpr std::size_t kMaxEvents = 128;

/// Places behind the last member that add_member may write to.
inline constexpr std::size_t kMemberRoom = 24;

struct VolumeKernels {
    /// Lower `x_limit` to the least x[i] with y[i] <= py, and `y_limit` to the least y[i] with
    /// x[i] <= px.
    void (*lower_limits)(const double* x, const double* y, std::size_t n, double px, double py,
                         double* x_limit, double* y_limit);

    /// Write the i < n with x[i] < x_limit and y[i] < y_limit, rising; returns how many.
    std::size_t (*collect_below)(const double* x, const double* y, std::size_t n, double x_limit,
                                 double y_limit, std::uint32_t* found);

    /// Volume of the union of boxes [point, corner), 1 <= n <= kMaxEvents. Points come by rising z;
    /// arrays have room for whole groups of 8.
    double (*covered_space)(const double* x, const double* y, const double* z, std::size_t n,
                            const double* corner);

    /// Volume of the box from p = (px, py, pz) to `corner` that no [member, inf) covers, or -1 if
    /// too many members reach into it for this kernel. Members come by rising z; their arrays go on
    /// with +inf to a multiple of 8.
    double (*free_space)(const double* x, const double* y, const double* z, std::size_t n,
                         double px, double py, double pz, const double* corner);

    /// Insert (px, py, pz) into such members and drop those it covers; returns how many are left.
    /// There is room for kMemberRoom more.
    std::size_t (*add_member)(double* x, double* y, double* z, std::size_t n, double px, double py,
                              double pz);

    static const VolumeKernels kPortable, kAvx2, kAvx512;  // volume.cpp, compiled for each level
};

}  // namespace pnag::simd
