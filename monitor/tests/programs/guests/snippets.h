/* Snippets of instructions with known registers, flags and memory before, and all of them printed after.
 *
 *     SNIPPET name
 *         instructions…
 *     END
 *
 * Before each one: rsp = `stack` + 2048, rsi = `source` + 256, rdi = `target` + 256, rbp = `stack` + 1024, every other
 * register 0x1111111111111111 * its number + 0x0102030405060708, flags 0x202 or as given, vector registers a pattern;
 * `source`, `target` and `stack` are 4096 bytes each and hold patterns. After: what has changed is printed, with the
 * flags. A snippet that faults is reported with signal, code, address and registers, and the next one runs. Executables
 * are static and at fixed addresses, so that addresses can be compared too. At END rsp may be
 * anything. The page at `nowhere` is not there; the one before it may be read, written and run, the one behind written.
 */
    .intel_syntax noprefix

    .macro SNIPPET name:req, flags=0x202
    .pushsection .rodata
79: .asciz "\name"
    .popsection
    mov qword ptr [snippet_name], offset 79b
    mov qword ptr [next_address], offset 77f
    mov qword ptr [begin_address], offset 78f
    mov edi, \flags
    lea rsp, [runtime_stack_top]
    jmp begin
78:
    .endm

/* Nothing up to `pushfq` in `finish` touches flags or needs a stack. */
    .macro END
    mov qword ptr [after], rax
    jmp finish
77:
    .endm

    .macro START
    .text
    .globl _start
_start:
    lea rsp, [runtime_stack_top]
    call install_handlers
    .endm

    .macro FINISH
    mov eax, 231
    xor edi, edi
    syscall
    .pushsection .note.GNU-stack, "", @progbits
    .popsection
    .endm
