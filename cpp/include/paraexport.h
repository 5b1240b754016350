/* paraexport: runs bundles from any language with a C interface.
 *
 * A bundle is a folder that `paraexport build` writes: a model, its preprocessing, its labels and data to check it with.
 *
 *     paraexport_engine *engine = NULL;
 *     if (paraexport_open("model.bundle", NULL, &engine) != PARAEXPORT_OK) {
 *         puts(paraexport_last_error());
 *     }
 *     paraexport_run(engine, images, count, logits);
 *     paraexport_close(engine);
 *
 * Ownership
 *   - `paraexport_open*` gives an engine that the caller must close. Nothing else is ever freed by the caller.
 *   - Strings from an engine (labels, names in `paraexport_info`) live until that engine is closed.
 *   - `paraexport_last_error` lives until the next call into this library on the same thread.
 *   - The library keeps no pointer to images, pixels, results, options or buffers after a call returns.
 *
 * Threads
 *   - Every function may be called from any thread at any time.
 *   - One engine may be used by many threads at once. The calls do not wait for each other.
 *   - `paraexport_close` may run while other threads use the engine: their calls finish first. Later calls with the
 *     closed engine fail with PARAEXPORT_BAD_INPUT.
 *   - The last error belongs to the thread.
 *
 * Structs
 *   - The first field `size` is `sizeof` of the struct as the caller was compiled. Set it before every call.
 *     PARAEXPORT_INIT(variable) does that, and sets all other fields to zero.
 *   - New fields are only added at the end. The library never reads or writes beyond `size`.
 *
 * Errors
 *   - Every call that can fail returns a status. Its numbers are the exit codes of the command `paraexport`.
 *   - No C++ exception leaves the library.
 *
 * This header is C89 and C++. `docs/cpp.md` explains the library.
 */
#ifndef PARAEXPORT_H
#define PARAEXPORT_H

#include <stddef.h>
#include <string.h>

#if defined(_WIN32)
#if defined(PARAEXPORT_BUILDING)
#define PARAEXPORT_API __declspec(dllexport)
#else
#define PARAEXPORT_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define PARAEXPORT_API __attribute__((visibility("default")))
#else
#define PARAEXPORT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum paraexport_status {
    PARAEXPORT_OK = 0,
    PARAEXPORT_CHECK_FAILED = 1, /* the answers differ from PyTorch's by more than the limit */
    PARAEXPORT_BAD_INPUT = 2,    /* a bad argument, image or bundle, or a model that the runtime cannot run */
    PARAEXPORT_MISSING = 3,      /* this machine lacks something: a runtime, a version, a device, memory */
    PARAEXPORT_INTERNAL = 4      /* a fault of this library */
} paraexport_status;

/* An opened bundle. */
typedef struct paraexport_engine paraexport_engine;

/* Set all fields of a struct to zero, and its `size`. */
#define PARAEXPORT_INIT(variable) ((void)memset(&(variable), 0, sizeof(variable)), (variable).size = sizeof(variable))

/* The version of this library, such as "0.1.0". */
PARAEXPORT_API const char *paraexport_version(void);

/* Why the last call on this thread failed, in one line of UTF-8. Empty after a call that succeeded. */
PARAEXPORT_API const char *paraexport_last_error(void);

/* ---- Opening ---- */

typedef struct paraexport_options {
    size_t size;
    int threads;         /* threads inside one call; 0 for the runtime's default, one for each physical core */
    const char *target;  /* refuse a bundle for another target; NULL for any */
    const char *runtime; /* file or folder of the runtime's shared library; NULL to search for it */
    int branches;        /* use only the first branches: this many; 0 for all */
} paraexport_options;

/* Verify the sha256 of every file of the bundle at `path`, and open it. Exactly these bytes run.
 *
 * With `options->branches`, the model with only the first branches is opened. A bundle has such models if it was built
 * with `--branches-at-load`; any other number is PARAEXPORT_BAD_INPUT, and the error lists the numbers of the bundle.
 *
 * `options` may be NULL. The runtime's library is searched in this order: `options->runtime`, the environment variable
 * PARAEXPORT_ONNXRUNTIME, PARAEXPORT_OPENVINO, PARAEXPORT_TENSORRT or PARAEXPORT_TENSORRT_RTX, the folder of this
 * library, a copy that the process has loaded, the active Python environment, the system. */
PARAEXPORT_API paraexport_status paraexport_open(const char *path, const paraexport_options *options,
                                                 paraexport_engine **engine);

/* One file of a bundle in memory. */
typedef struct paraexport_file {
    size_t size;
    const char *name; /* as in the manifest, such as "model.onnx" or "manifest.json" */
    const void *data;
    size_t size_bytes;
} paraexport_file;

/* Open a bundle whose files are in memory. Set `size` in every file, to one value. A name may come once. The buffers are not needed after the call. */
PARAEXPORT_API paraexport_status paraexport_open_memory(const paraexport_file *files, size_t count,
                                                        const paraexport_options *options, paraexport_engine **engine);

/* Reads the files of a bundle from anywhere, such as one encrypted file. Both functions get `context`. They are only
 * called before `paraexport_open_reader` returns, on the calling thread, and must not throw. */
typedef struct paraexport_reader {
    size_t size;
    void *context;
    /* Set `*size_bytes` and return 0, or return another number if there is no such file. */
    int (*find)(void *context, const char *name, size_t *size_bytes);
    /* Copy `size_bytes` bytes from `offset` to `buffer` and return 0, or return another number if that fails. */
    int (*read)(void *context, const char *name, size_t offset, void *buffer, size_t size_bytes);
} paraexport_reader;

PARAEXPORT_API paraexport_status paraexport_open_reader(const paraexport_reader *reader,
                                                        const paraexport_options *options, paraexport_engine **engine);

/* Close the engine; NULL is allowed. */
PARAEXPORT_API paraexport_status paraexport_close(paraexport_engine *engine);

/* ---- Facts ---- */

typedef struct paraexport_info {
    size_t size;
    size_t channels; /* the model takes images float32 [N, channels, height, width] */
    size_t height;
    size_t width;
    size_t classes;              /* and gives logits float32 [N, classes] */
    size_t max_batch;            /* images in one run of the runtime; larger inputs are split */
    const char *target;          /* "onnxruntime", "openvino", ... */
    const char *precision;       /* "fp32", "fp16", "bf16", "int8" */
    const char *layout;          /* "branches", "folded", "stacked" */
    const char *runtime_version; /* of the library that runs the model, such as "1.32.0" */
    const char *runtime_path;    /* the file of that library */
    size_t branches;             /* the branches in use; 0 if the model was not recognised as a Para-Former */
} paraexport_info;

PARAEXPORT_API paraexport_status paraexport_get_info(const paraexport_engine *engine, paraexport_info *info);

/* The label of one output; NULL if there is no such engine or output. */
PARAEXPORT_API const char *paraexport_label(const paraexport_engine *engine, size_t index);

/* ---- Running ---- */

/* Run `count` images, float32 [count, channels, height, width], and write logits, float32 [count, classes].
 * Both arrays are contiguous. `count` may be 0. */
PARAEXPORT_API paraexport_status paraexport_run(const paraexport_engine *engine, const float *images, size_t count,
                                                float *logits);

typedef enum paraexport_order {
    PARAEXPORT_RGB = 0, /* with 4 channels, alpha is the last one; it is dropped */
    PARAEXPORT_BGR = 1
} paraexport_order;

/* One image, uint8 [height, width, channels]. Pixel (y, x) starts at data + y * stride + x * channels. */
typedef struct paraexport_pixels {
    size_t size;
    const unsigned char *data;
    size_t height;
    size_t width;
    size_t channels; /* 1 for grey, 3 for colour, 4 for colour with alpha; or as many as the model takes */
    size_t stride;   /* bytes from one row to the next; 0 for width * channels */
    int order;       /* PARAEXPORT_RGB or PARAEXPORT_BGR */
} paraexport_pixels;

/* Convert the channels, resize, crop and normalise as the bundle says. Writes float32 [channels, height, width]. */
PARAEXPORT_API paraexport_status paraexport_prepare(const paraexport_engine *engine, const paraexport_pixels *pixels,
                                                    float *image);

typedef struct paraexport_answer {
    size_t size;
    int index;          /* the output; -1 for the label that a model with one output gives below 50 % */
    const char *label;  /* lives until the engine is closed */
    double score;       /* as the bundle's `scores` say: a probability, or a plain number */
    double probability; /* the score if it is a probability, else -1 */
} paraexport_answer;

/* Prepare one image, run it, and write the best `most` answers, the best first.
 *
 * Set `size` in `answers[0]`; it applies to all of them. `*found` becomes the number of answers that were written,
 * 0 if the call fails.
 * For models that measure values, the answers keep the order of the outputs. */
PARAEXPORT_API paraexport_status paraexport_classify(const paraexport_engine *engine, const paraexport_pixels *pixels,
                                                     paraexport_answer *answers, size_t most, size_t *found);

/* Turn the logits of one image, float32 [classes], into answers, as `paraexport_classify` does. */
PARAEXPORT_API paraexport_status paraexport_answers(const paraexport_engine *engine, const float *logits,
                                                    paraexport_answer *answers, size_t most, size_t *found);

/* ---- Checks ---- */

/* Replay the golden data of the bundle: prepare its raw images, which must give the same bits as in the build, and run
 * all of its images. The reference is PyTorch with as many branches as this engine uses. `*difference` becomes max |difference of logits| / max |logit|; it may be NULL.
 * PARAEXPORT_CHECK_FAILED if it exceeds the limit that the manifest records for `parity` of this model. */
PARAEXPORT_API paraexport_status paraexport_check(const paraexport_engine *engine, double *difference);

/* Verify every file of the bundle at `path`. This needs no runtime. */
PARAEXPORT_API paraexport_status paraexport_verify(const char *path);

#ifdef __cplusplus
}
#endif

#endif /* PARAEXPORT_H */
