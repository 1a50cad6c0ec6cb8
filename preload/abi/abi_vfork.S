// vfork returns twice to the same caller on the same stack, so nothing of ours may be on the stack when it happens: call
// the C part, which returns the real vfork, put the stack back as it was, and jump.
        .text
        .globl  vfork, __vfork
        .type   vfork, %function
        .type   __vfork, %function
vfork:
__vfork:
        .cfi_startproc
#if defined(__x86_64__)
        subq    $8, %rsp                // calls want a stack aligned to 16
        .cfi_adjust_cfa_offset 8
        call    xenloop_before_vfork
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        jmp     *%rax
#elif defined(__aarch64__)
        stp     x29, x30, [sp, #-16]!
        .cfi_adjust_cfa_offset 16
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        bl      xenloop_before_vfork
        ldp     x29, x30, [sp], #16
        .cfi_adjust_cfa_offset -16
        .cfi_restore x29
        .cfi_restore x30
        mov     x16, x0
        br      x16
#else
#error "libxenloop knows x86-64 and AArch64"
#endif
        .cfi_endproc
        .size   vfork, . - vfork
        .size   __vfork, . - __vfork
        .section .note.GNU-stack, "", %progbits
