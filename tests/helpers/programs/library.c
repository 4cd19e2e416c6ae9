/* Functions that kbit-ref judges in a shared library: right ones, and some that misbehave. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* int4: two's complement, -8 to 7; a tie goes to the even one, as rintf does. */
uint8_t encode_one(float x)
{
    float y = rintf(x);
    if (y > 7)
        y = 7;
    if (y < -8)
        y = -8;
    return (uint8_t)((int)y & 15);
}

float decode_one(uint8_t code)
{
    return code < 8 ? (float)code : (float)code - 16;
}

void encode(const float *x, uint8_t *codes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        codes[i] = encode_one(x[i]);
}

/* Ties away from zero: a mistake. */
void encode_away(const float *x, uint8_t *codes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        codes[i] = encode_one(roundf(x[i]));
}

/* As a vector kernel that forgets the last numbers of an odd count. */
void encode_in_fours(const float *x, uint8_t *codes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        codes[i] = i < n / 4 * 4 ? encode_one(x[i]) : 0;
}

/* int4-b32-absmax-f32: one code a byte; what it prints is no answer. */
int quantize(const float *x, float *scales, uint8_t *codes, int n, int block_size, int flags)
{
    printf("n = %d, flags = %d\n", n, flags);
    for (int begin = 0; begin < n; begin += block_size) {
        int end = begin + block_size < n ? begin + block_size : n;
        float most = 0;
        for (int i = begin; i < end; i++)
            most = fmaxf(most, fabsf(x[i]));
        float scale = most / 7;
        scales[begin / block_size] = scale;
        for (int i = begin; i < end; i++)
            codes[i] = encode_one(scale > 0 ? x[i] / scale : 0);
    }
    return flags == 3 ? 0 : flags;
}

void dequantize(const double *scales, const uint8_t *packed, float *x, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows * columns; i++)
        x[i] = decode_one((packed[i / 2] >> (i % 2 * 4)) & 15) * (float)scales[i / 32];
}

/* The scale of the first block for all of them. */
void dequantize_first(const float *scales, const uint8_t *packed, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = decode_one((packed[i / 2] >> (i % 2 * 4)) & 15) * scales[0];
}

/* affine: the zero point as a whole number of 32 bits */
void quantize_affine(const float *x, float *scales, int32_t *zero_points, uint8_t *codes, int64_t n)
{
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    float scale = (high - low) / 15;
    float zero = scale > 0 ? rintf(-low / scale) : 0;
    scales[0] = scale;
    zero_points[0] = (int32_t)fminf(fmaxf(zero, 0), 15);
    for (int64_t i = 0; i < n; i++) {
        float y = (scale > 0 ? rintf(x[i] / scale) : 0) + (float)zero_points[0];
        codes[i] = (uint8_t)fminf(fmaxf(y, 0), 15);
    }
}

/* A number that is no float16. */
void third(const float *x, float *scales, uint8_t *codes, int64_t n)
{
    scales[0] = x[0] > 0 ? 1.0f / 3 : 1.0f / 3;
    for (int64_t i = 0; i < n; i++)
        codes[i] = 0;
}

void writes_beyond(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    codes[n] = 1;
}

void writes_before(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    codes[-1] = 1;
}

void changes_x(float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    x[0] = 7;
}

void writes_seventeen(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    codes[2] = 17;
}

void crashes(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    abort();
}

void leaves(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    fprintf(stderr, "no licence found\n");
    exit(3);
}

void hangs(const float *x, uint8_t *codes, int64_t n)
{
    encode(x, codes, n);
    for (;;)
        sleep(1);
}
