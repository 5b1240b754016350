/* The runtime's own C interface, without paraexport: bare_onnxruntime LIBRARY MODEL THREADS BATCH CALLS CONFIG...
 * It answers each line on stdin like burst.cpp. CONFIG are entries NAME=VALUE of the session's configuration. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHANNELS = 1, SIDE = 32, CLASSES = 10 };

static const OrtApi *api;

static void check(OrtStatus *status) {
    if (status != NULL) {
        fprintf(stderr, "%s\n", api->GetErrorMessage(status));
        exit(1);
    }
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static int ascending(const void *one, const void *other) {
    const double difference = *(const double *)one - *(const double *)other;
    return difference < 0 ? -1 : difference > 0;
}

int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    const OrtApiBase *(*base)(void);
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtMemoryInfo *memory;
    const int threads = atoi(argv[3]), batch = atoi(argv[4]), calls = atoi(argv[5]);
    const size_t numbers = (size_t)batch * CHANNELS * SIDE * SIDE, outputs = (size_t)batch * CLASSES;
    float *images = malloc(numbers * sizeof *images), *logits = malloc(outputs * sizeof *logits);
    double *times = malloc((size_t)calls * sizeof *times);
    char line[16];
    int i;

    *(void **)&base = dlsym(library, "OrtGetApiBase");
    api = base()->GetApi(18);
    check(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "bare", &env));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, threads));
    for (i = 6; i < argc; ++i) {
        char *value = strchr(argv[i], '=');
        *value = '\0';
        check(api->AddSessionConfigEntry(options, argv[i], value + 1));
    }
    check(api->CreateSession(env, argv[2], options, &session));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    for (i = 0; i < (int)numbers; ++i) {
        images[i] = 0.5f;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        for (i = 0; i < calls; ++i) {
            const int64_t shape[] = {batch, CHANNELS, SIDE, SIDE}, logit_shape[] = {batch, CLASSES};
            const char *input_name = "images", *output_name = "logits";
            OrtValue *input = NULL, *output = NULL;
            const double start = now_us();
            check(api->CreateTensorWithDataAsOrtValue(memory, images, numbers * sizeof *images, shape, 4,
                                                      ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
            check(api->CreateTensorWithDataAsOrtValue(memory, logits, outputs * sizeof *logits, logit_shape, 2,
                                                      ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &output));
            check(api->Run(session, NULL, &input_name, (const OrtValue *const *)&input, 1, &output_name, 1, &output));
            api->ReleaseValue(input);
            api->ReleaseValue(output);
            times[i] = now_us() - start;
        }
        qsort(times, (size_t)calls, sizeof *times, ascending);
        printf("%.3f\n", times[calls / 2]);
        fflush(stdout);
    }
    return 0;
}
