#include "pnag/build_info.hpp"

#include <pybind11/stl.h>

#include "register.hpp"

namespace pnag::python {

namespace py = pybind11;

void register_build_info(py::module_& module) {
    module.def(
        "build_info",
        [] {
            const BuildInfo info = build_info();
            py::dict result;
            result["version"] = info.version;
            result["compiler"] = info.compiler;
            result["build_type"] = info.build_type;
            result["flags"] = info.flags;
            result["simd_built"] = info.simd_built;
            result["simd_usable"] = info.simd_usable;
            result["simd_used"] = info.simd_used;
            return result;
        },
        "How the extension was built, and which instruction set it uses on this machine.");
}

}  // namespace pnag::python
