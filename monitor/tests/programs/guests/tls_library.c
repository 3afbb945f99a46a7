/* The library that tls.c opens: thread-local variables through the general dynamic model. */
__thread long library_value = 1000;
static __thread int calls;

int library_count(int n)
{
    for (int i = 0; i < n; i++)
        calls++;
    return calls;
}

long *library_where(void)
{
    return &library_value;
}
