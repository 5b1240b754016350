#include <paraexport.hpp>

#include <cstdio>

int main(int, char **argv) {
    paraexport::Engine engine{argv[1]};
    const paraexport::Info &info = engine.info();
    const std::vector<float> images(info.channels * info.height * info.width);
    paraexport::Engine moved{std::move(engine)};
    std::printf("%zu %.6f\n", moved(images.data(), 1).size(), moved.check());
}
