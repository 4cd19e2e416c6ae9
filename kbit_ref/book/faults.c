/* nf4-b64-absmax-f32 by hand; -DFAULT=n plants a fault, 0 is right. */
#include <math.h>
#include <stdint.h>

#ifndef FAULT
#define FAULT 0
#endif

static const float levels[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

static unsigned nearest(float y)
{
    unsigned code = 0;
    while (code < 15 && (double)y > ((double)levels[code] + (double)levels[code + 1]) / 2)
        code++;
    return code;
}

/* Round to half precision and back. */
static float half(float x)
{
    int exponent;
    float fraction = frexpf(x, &exponent);
    if (exponent < -13)
        return ldexpf(rintf(ldexpf(x, 24)), -24);
    x = ldexpf(rintf(ldexpf(fraction, 11)), exponent - 11);
    return x > 65504 ? INFINITY : x;
}

void f(const float *x, float *scales, uint8_t *packed, int64_t n)
{
    for (int64_t i = 0; i < (n + 1) / 2; i++)
        packed[i] = 0;
    for (int64_t begin = 0, block = 0; begin < n; begin += 64, block++) {
        int64_t end = begin + 64 < n ? begin + 64 : n;
        float scale = 0;
        for (int64_t i = begin; i < end; i++) {
            float size = FAULT == 6 ? x[i] : fabsf(x[i]);
            if (size > scale)
                scale = size;
        }
        if (FAULT == 4)
            scale = half(scale);
        scales[block] = scale;
        if (FAULT == 3 && end == n)
            break;
        if (FAULT == 5)
            end -= (end - begin) % 2;
        float inverse = 1.0f / scale;
        for (int64_t i = begin; i < end; i++) {
            float y = FAULT == 2 ? x[i] * inverse : x[i] / scale;
            unsigned code = nearest(scale > 0 ? y : 0);
            int high = FAULT == 1 ? i % 2 == 0 : i % 2 == 1;
            packed[i / 2] |= (uint8_t)(high ? code << 4 : code);
        }
    }
}
