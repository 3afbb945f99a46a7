// Wants a second thread, twice.
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *body(void *argument) { return argument; }

int main(void) {
    pthread_t thread;
    puts(strerror(pthread_create(&thread, NULL, body, NULL)));
    puts(strerror(pthread_create(&thread, NULL, body, NULL)));
}
