/* For each word: resolve it with the C library that this was linked with, connect to port 80 of every address that came,
   and say what came of it. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        int failed = getaddrinfo(words[i], "80", &hints, &found);
        if (failed) {
            printf("%s: %s\n", words[i], gai_strerror(failed));
            continue;
        }
        for (struct addrinfo *one = found; one; one = one->ai_next) {
            char text[64];
            getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            int endpoint = socket(one->ai_family, SOCK_STREAM, 0);
            int refused = connect(endpoint, one->ai_addr, one->ai_addrlen);
            printf("%s %s: %s\n", words[i], text, refused ? strerror(errno) : "connected");
            close(endpoint);
        }
        freeaddrinfo(found);
    }
    return 0;
}
