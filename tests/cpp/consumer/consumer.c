#include <paraexport.h>
#include <stdio.h>

int main(int argc, char **argv) {
    (void)argc;
    if (paraexport_verify(argv[1]) != PARAEXPORT_OK) {
        puts(paraexport_last_error());
        return 1;
    }
    puts(paraexport_version());
    return 0;
}
