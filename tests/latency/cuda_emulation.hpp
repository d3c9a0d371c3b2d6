// Runs CUDA C++ as TVM writes it on a processor: each thread of a block is a fiber, which runs
// until it ends or waits at a barrier.
#pragma once

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define __global__
#define __launch_bounds__(threads)
#define __shared__ static  // one block runs at a time

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline float max(float a, float b) {
    return a > b ? a : b;
}
inline float min(float a, float b) {
    return a < b ? a : b;
}

struct Index {
    int x, y, z;
};
inline Index blockIdx, threadIdx;

namespace emulation {

struct Fiber {
    static constexpr size_t stack_size = 64 * 1024;
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(stack_size);
    Index index;
    bool done;
};

inline ucontext_t scheduler;
inline Fiber* current;
inline std::function<void()> body;

inline void enter() {
    body();
    current->done = true;
}

inline void wait() {
    swapcontext(&current->context, &scheduler);
}

inline void run_block(std::vector<Fiber>& fibers) {
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = Fiber::stack_size;
        fiber.context.uc_link = &scheduler;
        fiber.done = false;
        makecontext(&fiber.context, enter, 0);
    }
    // Between barriers, threads run in one order and then in the other: what only works in one of
    // them lacks a barrier.
    for (bool forward = true;; forward = !forward) {
        size_t done = 0;
        for (size_t i = 0; i < fibers.size(); ++i) {
            current = &fibers[forward ? i : fibers.size() - 1 - i];
            threadIdx = current->index;
            swapcontext(&scheduler, &current->context);
            done += current->done;
        }
        if (done == fibers.size()) return;
        if (done > 0) {
            std::fputs("some threads of a block ended while others wait at a barrier\n", stderr);
            std::exit(1);
        }
    }
}

inline void launch(int blocks, int width, int height, std::function<void()> kernel) {
    body = std::move(kernel);
    std::vector<Fiber> fibers(static_cast<size_t>(width * height));
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x)
            fibers[static_cast<size_t>(y * width + x)].index = {x, y, 0};
    }
    for (int block = 0; block < blocks; ++block) {
        blockIdx = {block, 0, 0};
        run_block(fibers);
    }
}

}  // namespace emulation

#define __syncthreads emulation::wait
// TVM writes it between the words of a declaration, where only the attribute may stand.
#define alignas(bytes) __attribute__((aligned(bytes)))
