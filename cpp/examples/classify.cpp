// Labels image files: classify [--branches K] BUNDLE IMAGE...
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "paraexport.hpp"
#include "paraexport_images.h"

int main(int argc, char **argv) {
    paraexport::Options options;
    int first = 1;
    if (argc > 2 && std::strcmp(argv[1], "--branches") == 0) {
        char *end = nullptr;
        const long count = std::strtol(argv[2], &end, 10);
        if (end == argv[2] || *end != '\0' || count < 1 || count > 1000000) {
            std::fprintf(stderr, "--branches: %s is not a number of branches\n", argv[2]);
            return 2;
        }
        options.branches = static_cast<int>(count);
        first = 3;
    }
    if (argc < first + 2) {
        std::fprintf(stderr, "usage: classify [--branches K] BUNDLE IMAGE...\n");
        return 2;
    }
    try {
        const paraexport::Engine engine{argv[first], options};
        int status = 0;
        for (int i = first + 1; i < argc; ++i) {
            paraexport_image *opened = nullptr;
            if (const int failed = paraexport_image_open(argv[i], &opened); failed != PARAEXPORT_OK) {
                std::fprintf(stderr, "%s\n", paraexport_image_last_error());
                status = failed;
                continue;
            }
            const std::unique_ptr<paraexport_image, void (*)(paraexport_image *)> image{opened, paraexport_image_close};
            paraexport_pixels pixels;
            PARAEXPORT_INIT(pixels);
            paraexport_image_pixels(image.get(), &pixels);
            std::printf("%s:", argv[i]);
            for (const paraexport::Label &label :
                 engine.classify({pixels.data, pixels.height, pixels.width, pixels.channels}, 3)) {
                if (label.probability >= 0) {
                    std::printf(" %s %.1f %%", label.label.c_str(), 100 * label.probability);
                } else {
                    std::printf(" %s %.4g", label.label.c_str(), label.score);
                }
            }
            std::printf("\n");
        }
        return status;
    } catch (const paraexport::Failure &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return failure.status();
    }
}
