/* Shared by runtime.c and the programs of snippets that are written in C. */
#define AREA 4096ul

struct state {
    unsigned long general[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 … r15 */
    unsigned long flags;
    unsigned long padding;
    unsigned char vectors[256];
};

extern struct state before, after;
extern unsigned char source[AREA], target[AREA], stack[AREA];
extern unsigned char before_nowhere[AREA], nowhere[AREA];
extern const char *snippet_name;
extern char after_fault[], return_from_signal[];

long system_call(long number, long a, long b, long c, long d);
void text(const char *s);
void hexadecimal(unsigned long value);
void flush(void);
