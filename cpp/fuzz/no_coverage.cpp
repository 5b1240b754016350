// Stands in for the counter of `driver.cpp` in programs that do not fuzz.
extern "C" __attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc() {}
