// Any bytes as a PNG or JPEG file.
#include <cstdint>

#include "paraexport_images.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    paraexport_image *image = nullptr;
    if (paraexport_image_decode(data, size, &image) == PARAEXPORT_OK) {
        paraexport_pixels pixels;
        PARAEXPORT_INIT(pixels);
        unsigned sum = 0;
        if (paraexport_image_pixels(image, &pixels) == PARAEXPORT_OK) {
            for (std::size_t i = 0; i < pixels.height * pixels.width * pixels.channels; ++i) {
                sum += pixels.data[i];
            }
        }
        paraexport_image_close(image);
        return sum == 0xffffffff ? -1 : 0;  // so that the sum is computed
    }
    return 0;
}
