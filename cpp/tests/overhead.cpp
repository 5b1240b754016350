// Measures what `paraexport_run` costs beyond the runtime's own call, and counts allocations of this library.
//
//   overhead BUNDLE [CALLS]
//
// Prints one line of JSON. The runtime's own call is the same session without the C interface above it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "engine.hpp"
#include "handles.hpp"
#include "paraexport.h"

namespace {

std::atomic<unsigned long> allocations{0};

double microseconds_of(void (*call)(void *), void *context) {
    const auto start = std::chrono::steady_clock::now();
    call(context);
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

struct Work {
    paraexport_engine *engine;
    const paraexport::core::Session *session;
    std::vector<float> images, logits;
};

void through_interface(void *context) {
    auto &work = *static_cast<Work *>(context);
    paraexport_run(work.engine, work.images.data(), 1, work.logits.data());
}

void through_session(void *context) {
    auto &work = *static_cast<Work *>(context);
    work.session->run(work.images.data(), 1, work.logits.data());
}

double median(std::vector<double> &values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

// Counts the allocations of this program and of the library in it. Runtimes that use this operator count too, in both
// kinds of calls alike.
void *operator new(std::size_t size) {
    ++allocations;
    if (void *memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc{};
}
void operator delete(void *memory) noexcept {
    std::free(memory);
}
void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: overhead BUNDLE [CALLS]\n");
        return 2;
    }
    const int calls = argc > 2 ? std::atoi(argv[2]) : 2000;
    paraexport_options options;
    PARAEXPORT_INIT(options);
    options.threads = 1;
    Work work{};
    if (paraexport_open(argv[1], &options, &work.engine) != PARAEXPORT_OK) {
        std::fprintf(stderr, "%s\n", paraexport_last_error());
        return 1;
    }
    const auto engine = paraexport::core::engine_of(work.engine);
    work.session = &engine->session();
    work.images.assign(engine->manifest().image_numbers(), 0.5F);
    work.logits.resize(engine->manifest().labels.size());
    std::vector<double> interface_us, session_us;
    unsigned long interface_allocations = 0, session_allocations = 0;
    for (int i = -100; i < calls; ++i) {
        const unsigned long start = allocations;
        const double one = microseconds_of(through_interface, &work);
        const unsigned long middle = allocations;
        const double other = microseconds_of(through_session, &work);
        const unsigned long end = allocations;
        if (i >= 0) {
            interface_us.push_back(one);
            session_us.push_back(other);
            interface_allocations += middle - start;
            session_allocations += end - middle;
        }
    }
    std::printf(
        "{\"calls\": %d, \"interface_us\": %.3f, \"session_us\": %.3f, \"interface_allocations\": %lu, "
        "\"session_allocations\": %lu}\n",
        calls, median(interface_us), median(session_us), interface_allocations, session_allocations);
    paraexport_close(work.engine);
    return 0;
}
