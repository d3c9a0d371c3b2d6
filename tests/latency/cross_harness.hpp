// Runs compiled kernels without TVM's runtime: inputs from standard input, outputs to standard
// output, as bare floats. Kernels of one thread need no more of the runtime than is defined here.
#pragma once

#include <tvm/ffi/c_api.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

using Kernel = int (*)(void*, const TVMFFIAny*, int, TVMFFIAny*);
using Shapes = std::vector<std::vector<int64_t>>;

extern "C" {

// TVM's loader fills these in.
extern void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void*);

// A kernel checks its arguments and complains here.
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
    std::fprintf(stderr, "%s: ", kind);
    for (int32_t i = 0; i < count; ++i)
        std::fputs(parts[i] ? parts[i] : "", stderr);
    std::exit(1);
}
}

inline void run(Kernel kernel, const Shapes& shapes) {
    __TVMBackendAllocWorkspace = [](int, int, uint64_t bytes, int, int) {
        return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    };
    __TVMBackendFreeWorkspace = [](int, int, void* memory) {
        std::free(memory);
        return 0;
    };
    std::vector<DLTensor> tensors;
    std::vector<TVMFFIAny> arguments;
    tensors.reserve(shapes.size());
    size_t floats = 0;
    for (const std::vector<int64_t>& shape : shapes) {
        floats = 1;
        for (int64_t extent : shape)
            floats *= static_cast<size_t>(extent);
        const bool output = &shape == &shapes.back();
        void* data = std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
        if (!output && std::fread(data, sizeof(float), floats, stdin) != floats) std::exit(2);
        tensors.push_back({data,
                           {kDLCPU, 0},
                           static_cast<int32_t>(shape.size()),
                           {kDLFloat, 32, 1},
                           const_cast<int64_t*>(shape.data()),
                           nullptr,
                           0});
        TVMFFIAny argument{};
        argument.type_index = kTVMFFIDLTensorPtr;
        argument.v_ptr = &tensors.back();
        arguments.push_back(argument);
    }
    TVMFFIAny result{};
    if (kernel(nullptr, arguments.data(), static_cast<int>(arguments.size()), &result))
        std::exit(3);
    std::fwrite(tensors.back().data, sizeof(float), floats, stdout);
    for (DLTensor& tensor : tensors)
        std::free(tensor.data);
}
