/* A quantizer in C that kbit-ref can judge: nf4-b64-absmax-f32.
 *
 *     cc -O2 -o nf4_b64 nf4_b64.c
 *     kbit-ref check nf4-b64-absmax-f32 --cmd ./nf4_b64
 *     kbit-ref gen nf4-b64-absmax-f32 | ./nf4_b64 | kbit-ref check nf4-b64-absmax-f32 --pipe
 *
 * A line comes in as   n=64 3f800000 bf000000 ...   and goes out with the answer added:
 *                      n=64 3f800000 bf000000 ... -> SCALES BYTES
 *
 * With -DNIBBLE_BUG the two codes of a byte change places.
 */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 64

static const float levels[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

/* The nearest level; on the middle between two of them the lower one. */
static unsigned encode(float y)
{
    unsigned code = 0;
    while (code < 15 && (double)y > ((double)levels[code] + (double)levels[code + 1]) / 2)
        code++;
    return code;
}

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > most)
            most = fabsf(x[i]);
    return most;
}

static void answer(const float *x, size_t n)
{
    uint8_t *bytes = calloc((n + 1) / 2, 1);
    if (!bytes)
        exit(2);
    for (size_t begin = 0; begin < n; begin += BLOCK) {
        size_t end = begin + BLOCK < n ? begin + BLOCK : n;
        float scale = largest(x + begin, end - begin);
        uint32_t word;
        memcpy(&word, &scale, sizeof word);
        printf(" %08" PRIx32, word);
        for (size_t i = begin; i < end; i++) {
            unsigned code = encode(scale > 0 ? x[i] / scale : 0);
#ifdef NIBBLE_BUG
            unsigned shift = i % 2 ? 0 : 4;
#else
            unsigned shift = i % 2 ? 4 : 0; /* the first code in the low four bits */
#endif
            bytes[i / 2] |= (uint8_t)(code << shift);
        }
    }
    for (size_t i = 0; i < (n + 1) / 2; i++)
        printf(" %02x", bytes[i]);
    free(bytes);
}

int main(void)
{
    size_t n;
    while (scanf(" n=%zu", &n) == 1) {
        float *x = malloc((n ? n : 1) * sizeof *x);
        if (!x)
            return 2;
        printf("n=%zu", n);
        for (size_t i = 0; i < n; i++) {
            uint32_t word;
            if (scanf("%" SCNx32, &word) != 1)
                return 2;
            printf(" %08" PRIx32, word);
            memcpy(&x[i], &word, sizeof word);
        }
        printf(" ->");
        answer(x, n);
        printf("\n");
        free(x);
    }
    return 0;
}
