// Volume of a union of boxes [point, reference]; the engine behind the hypervolume functions.
//
// m = 2: sweep. m = 3: sweep along the third objective over the staircase of the first two, O(n log
// n) (Beume et al., IEEE TEC 2009). m = 4: sweep along the fourth objective, adding to a volume in
// three what each point alone dominates, O(n) per point (the idea of HV4D+: Guerreiro and Fonseca,
// "Computing and updating hypervolume contributions in up to four dimensions", IEEE TEC 2018; here
// flat arrays and a vectorised filter take the place of linked lists). m >= 5: WFG (While,
// Bradstreet and Barone, IEEE TEC 2012) down to m = 4.
//
// Up to simd::kMaxEvents points in three objectives are swept along the first with the heights of
// all levels of the third side by side, O(k^2 / 8) for k points: without a branch it is the faster
// way, since a sorted staircase costs several mispredicted ones a point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../simd/points.hpp"
#include "../simd/volume.hpp"
#include "block_list.hpp"
#include "ordering.hpp"
#include "pnag/pareto.hpp"

namespace pnag {

/// The points that are better than the reference everywhere.
struct Inside {
    std::vector<double> values;     ///< (n, m), row-major
    std::vector<std::size_t> rows;  ///< where they stand among all points, if that was asked for
    std::vector<double> lowest;     ///< by objective; the reference's if there are none
    double box = 0.0;               ///< volume from the lowest to the reference; it may overflow

    [[nodiscard]] Points view() const {
        return {values, values.size() / lowest.size(), lowest.size()};
    }
};

/// Checks points and reference as `hypervolume` promises.
Inside points_inside(const Points& points, std::span<const double> reference, bool with_rows);

/// The part of the plane right of and above some points, up to a corner.
///
/// Steps have x rising and y falling, from one at the left edge of the plane to one at the corner.
class PlaneCover {
  public:
    /// Nothing covered; the plane is unbounded to the left and below.
    void reset(double corner_x, double corner_y);

    /// Cover [x, corner] x [y, corner]; returns the area that was not covered before.
    double add(double x, double y);

  private:
    struct Step {
        double x;
        double y;
    };
    std::vector<Step> steps_;
};

/// Points sorted by z, and what a new one adds to them in three objectives.
class SpaceCover {
  public:
    explicit SpaceCover(const simd::VolumeKernels& kernel) : kernel_(&kernel) {}

    /// Forget all members; up to `most` will be added.
    void reset(const double* corner, std::size_t most);

    /// Add a point; returns the volume that was not covered before. O(n) vectorised, and the events
    /// within the point's own box.
    double add(double x, double y, double z);

  private:
    /// Volume of the box of (x, y, z) that no member covers.
    double free_volume(double x, double y, double z);

    [[nodiscard]] std::size_t members_up_to(double z) const;

    const simd::VolumeKernels* kernel_;
    double corner_[3] = {};
    std::size_t n_ = 0;
    std::vector<double> x_;
    std::vector<double> y_;
    std::vector<double> z_;
    std::vector<std::uint32_t> events_;
    PlaneCover plane_;
};

/// Keeps scratch memory between calls, of which WFG makes very many.
class VolumeSolver {
  public:
    VolumeSolver(std::span<const double> reference, const Execution& execution);

    /// Another one, for the volumes that follow.
    void set_reference(std::span<const double> reference) {
        reference_.assign(reference.begin(), reference.end());
    }

    /// Volume of finite points strictly better than the reference, (n, m) row-major; reorders them.
    double volume(std::vector<double>& values);

  private:
    struct Level {
        std::vector<double> cut;
        std::vector<double> sorted;
        std::vector<std::size_t> rank;
        BlockList kept{1};
    };

    double volume_of(double* values, std::size_t n, std::size_t m);
    double volume_1d(const double* values, std::size_t n) const;
    double volume_2d(const double* values, std::size_t n);
    double volume_3d(const double* values, std::size_t n);
    /// Rows sorted by the last objective, rising.
    double volume_4d(const double* values, std::size_t n);
    double volume_wfg(double* values, std::size_t n, std::size_t m);
    std::size_t keep_minimal(double* values, std::size_t n, std::size_t m, Level& level);

    /// Sort rows of m doubles by one column, in place.
    void sort_rows(double* values, std::size_t n, std::size_t m, std::size_t column, Level& level);

    /// Write the order of rows by one column, equal values by row, to order_.
    void order_by(const double* values, std::size_t n, std::size_t m, std::size_t column);

    const simd::VolumeKernels& kernel_;
    const simd::PointKernels& points_;
    Pacer pacer_;
    std::vector<double> reference_;
    std::vector<Level> levels_;  // by number of objectives
    std::vector<std::uint32_t> order_;
    std::vector<KeyIndex> items_;
    std::vector<KeyIndex> scratch_;
    PlaneCover plane_;
    SpaceCover space_;
};

}  // namespace pnag
