// What a program is told when it starts: printed so that it is the same wherever the program lies.
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

extern char **environ;
extern const ElfW(Ehdr) __ehdr_start;
extern void _start(void);

static void entry(const ElfW(auxv_t) *aux) {
    uintptr_t value = aux->a_un.a_val;
    switch (aux->a_type) {
    case AT_SYSINFO_EHDR:
        printf("vdso: %.4s, on a page: %d\n", (char *)value + 0, value % 4096 == 0);
        break;
    case AT_PHDR:
        printf("phdr is the program's: %d\n", value == (uintptr_t)&__ehdr_start + __ehdr_start.e_phoff);
        break;
    case AT_PHNUM:
        printf("phnum is the program's: %d\n", value == __ehdr_start.e_phnum);
        break;
    case AT_ENTRY:
        printf("entry is _start: %d\n", value == (uintptr_t)_start);
        break;
    case AT_BASE:
        printf("base: %d, on a page: %d, ELF: %d\n", value != 0, value % 4096 == 0,
               value == 0 || memcmp((char *)value, ELFMAG, SELFMAG) == 0);
        break;
    case AT_RANDOM:
        printf("random: %d\n", memcmp((char *)value, "\0\0\0\0\0\0\0\0", 8) != 0);
        break;
    case AT_HWCAP2:
        // Bit 1, FSGSBASE, is not offered.
        printf("hwcap2: %#lx\n", (unsigned long)value & ~2ul);
        break;
    case AT_EXECFN:
    case AT_PLATFORM:
        printf("%lu: %s\n", (unsigned long)aux->a_type, (char *)value);
        break;
    case 27: // rseq, which is not offered
    case 28:
        break;
    default:
        printf("%lu: %#lx\n", (unsigned long)aux->a_type, (unsigned long)value);
    }
}

int main(int argc, char **argv) {
    uintptr_t *words = (uintptr_t *)argv - 1;
    printf("argc at the start: %d, aligned: %d\n", words[0] == (uintptr_t)argc, (uintptr_t)words % 16 == 0);
    char *next = argv[0];
    for (int i = 0; i < argc; i++) {
        printf("argv[%d] = %s, follows: %d\n", i, argv[i], argv[i] == next);
        next = argv[i] + strlen(argv[i]) + 1;
    }
    printf("argv ends: %d, envp follows: %d\n", argv[argc] == NULL, environ == argv + argc + 1);
    char **variable = environ;
    for (; *variable; variable++) {
        printf("%s, follows: %d\n", *variable, *variable == next);
        next = *variable + strlen(*variable) + 1;
    }
    const ElfW(auxv_t) *aux = (const ElfW(auxv_t) *)(variable + 1);
    for (; aux->a_type != AT_NULL; aux++)
        entry(aux);

    char *name = (char *)getauxval(AT_EXECFN);
    printf("execfn follows the environment: %d\n", name == next);
    uintptr_t top = (uintptr_t)name + strlen(name) + 1 + 8;
    printf("a null word ends the stack, on a page: %d %d\n", *(uintptr_t *)(top - 8) == 0, top % 4096 == 0);
    uintptr_t platform = getauxval(AT_PLATFORM), random = getauxval(AT_RANDOM);
    printf("platform is 16 random bytes further on: %d\n", platform == random + 16);
    printf("platform ends on 16: %d\n", (platform + strlen((char *)platform) + 1) % 16 == 0);
    printf("gap below the strings: %d\n", (uintptr_t)argv[0] - platform < 8192 + 32);
    printf("tables end below the random bytes: %d\n", (uintptr_t)(aux + 1) <= random && random - (uintptr_t)(aux + 1) < 16);
    return 0;
}
