/* The library from C: minimal BUNDLE. It checks the golden data and labels a grey image. */
#include <paraexport.h>
#include <stdio.h>

int main(int argc, char **argv) {
    static const unsigned char grey[32 * 32];
    paraexport_engine *engine = NULL;
    paraexport_pixels pixels;
    paraexport_answer answers[3];
    paraexport_status status;
    double difference = 0;
    size_t found = 0, i;

    if (argc != 2) {
        fprintf(stderr, "usage: minimal BUNDLE\n");
        return 2;
    }
    PARAEXPORT_INIT(pixels);
    pixels.data = grey;
    pixels.height = 32;
    pixels.width = 32;
    pixels.channels = 1;
    PARAEXPORT_INIT(answers[0]);
    status = paraexport_open(argv[1], NULL, &engine);
    if (status == PARAEXPORT_OK) {
        status = paraexport_check(engine, &difference);
    }
    if (status == PARAEXPORT_OK) {
        status = paraexport_classify(engine, &pixels, answers, 3, &found);
    }
    if (status == PARAEXPORT_OK) {
        printf("golden difference %.3g\n", difference);
        for (i = 0; i < found; ++i) {
            printf("%s %.1f %%\n", answers[i].label, 100 * answers[i].score);
        }
    } else {
        fprintf(stderr, "%s\n", paraexport_last_error());
    }
    paraexport_close(engine);
    return (int)status;
}
