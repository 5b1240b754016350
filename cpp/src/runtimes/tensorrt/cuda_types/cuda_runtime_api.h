/// The two types of CUDA that TensorRT's headers name. So no CUDA toolkit is needed to compile: `cuda.cpp` calls the
/// driver itself.
#pragma once

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st *;
using cudaEvent_t = CUevent_st *;
