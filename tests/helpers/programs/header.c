/* Uses the headers that kbit-ref writes, and returns the number of the first test case that it gets wrong. */
#include <string.h>

#include "nf4.h"
#include "nf4_blocks.h"

static float real(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The code by the steps over the bits of a float. */
static unsigned by_steps(uint32_t bits)
{
    unsigned i = KBIT_NF4_STEP_WORDS_SIZE - 1;
    while (kbit_nf4_step_words[i] > bits)
        i--;
    return kbit_nf4_step_codes[i];
}

/* The code by the midpoints: as many of them as lie below. */
static unsigned by_midpoints(uint32_t bits)
{
    unsigned i, code = 0;
    double x = real(bits), midpoint;
    for (i = 0; i < KBIT_NF4_MIDPOINTS_SIZE; i++) {
        memcpy(&midpoint, &kbit_nf4_midpoints[i], sizeof midpoint);
        code += x > midpoint;
    }
    return code;
}

static int wrong_block(unsigned block)
{
    unsigned i, size = sizeof kbit_nf4_b64_absmax_f32_case_x[0] / 4;
    for (i = 0; i < size; i++) {
        float scale = real(kbit_nf4_b64_absmax_f32_case_scales[block][0]);
        float x = real(kbit_nf4_b64_absmax_f32_case_x[block][i]);
        unsigned code = (kbit_nf4_b64_absmax_f32_case_packed[block][i / 2] >> (i % 2 * 4)) & 15;
        float decoded = real(kbit_nf4_levels[code]) * scale, y = scale > 0 ? x / scale : 0;
        uint32_t bits;
        memcpy(&bits, &y, sizeof bits);
        if (by_steps(bits) != code || memcmp(&decoded, &kbit_nf4_b64_absmax_f32_case_decoded[block][i], 4))
            return 1;
    }
    return 0;
}

int main(void)
{
    unsigned i;
    for (i = 0; i < KBIT_NF4_CASE_X_SIZE; i++)
        if (by_steps(kbit_nf4_case_x[i]) != kbit_nf4_case_codes[i] ||
            by_midpoints(kbit_nf4_case_x[i]) != kbit_nf4_case_codes[i])
            return 1;
    for (i = 0; i < KBIT_NF4_B64_ABSMAX_F32_CASE_X_SIZE; i++)
        if (wrong_block(i))
            return 2;
    return 0;
}
