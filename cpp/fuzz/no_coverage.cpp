// Stands in for the counter of `driver.cpp` in programs that do not fuzz.
extern "C" void __sanitizer_cov_trace_pc() {}
