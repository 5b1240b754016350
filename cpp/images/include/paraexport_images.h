/* Reads image files for paraexport: PNG with libpng, JPEG with libjpeg-turbo. Other formats are refused.
 *
 *     paraexport_image *image = NULL;
 *     paraexport_pixels pixels;
 *     PARAEXPORT_INIT(pixels);
 *     if (paraexport_image_open("cat.jpg", &image) == PARAEXPORT_OK) {
 *         paraexport_image_pixels(image, &pixels);
 *         paraexport_classify(engine, &pixels, answers, most, &found);
 *         paraexport_image_close(image);
 *     }
 *
 * The pixels are those that the Python package reads: the first frame, without EXIF orientation and colour profile.
 * Transparency is dropped. Grey with 16 bits becomes 8 bits by (v + 128) / 257. Functions may be called from any
 * thread; an image belongs to the thread that uses it. This is a library of its own, so that programs with their own
 * decoder need neither libpng nor libjpeg. This header is C89 and C++.
 */
#ifndef PARAEXPORT_IMAGES_H
#define PARAEXPORT_IMAGES_H

#include "paraexport.h"

#if defined(_WIN32)
#if defined(PARAEXPORT_IMAGES_BUILDING)
#define PARAEXPORT_IMAGES_API __declspec(dllexport)
#else
#define PARAEXPORT_IMAGES_API __declspec(dllimport)
#endif
#else
#define PARAEXPORT_IMAGES_API PARAEXPORT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A decoded image, grey or RGB. */
typedef struct paraexport_image paraexport_image;

/* Decode the file at `path`. The caller must close `*image`. */
PARAEXPORT_IMAGES_API paraexport_status paraexport_image_open(const char *path, paraexport_image **image);

/* Decode a file in memory. The bytes are not needed after the call. */
PARAEXPORT_IMAGES_API paraexport_status paraexport_image_decode(const void *data, size_t size_bytes,
                                                                paraexport_image **image);

/* The pixels, for `paraexport_prepare` and `paraexport_classify`. They live until the image is closed. */
PARAEXPORT_IMAGES_API paraexport_status paraexport_image_pixels(const paraexport_image *image,
                                                                paraexport_pixels *pixels);

/* NULL is allowed. */
PARAEXPORT_IMAGES_API void paraexport_image_close(paraexport_image *image);

/* Why the last call of this header failed on this thread. Empty after a call that succeeded. */
PARAEXPORT_IMAGES_API const char *paraexport_image_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* PARAEXPORT_IMAGES_H */
