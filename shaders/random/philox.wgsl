// Philox4x32-10 (Salmon et al., 2011), the twin of `wgrad_graph::philox`. WGSL has no 64-bit product, so the high word is
// put together from products of 16-bit halves.
fn philox_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let cross = a1 * b0 + (low >> 16u);
    let middle = a0 * b1 + (cross & 0xffffu);
    return a1 * b1 + (cross >> 16u) + (middle >> 16u);
}

fn philox_block(index: u32, low: u32, high: u32, stream: u32, step: u32, kind: u32) -> vec4<u32> {
    var c = vec4<u32>(index, step, stream, kind);
    var key = vec2<u32>(low, high);
    for (var round = 0u; round < 10u; round += 1u) {
        let high0 = philox_high(0xd2511f53u, c.x);
        let high1 = philox_high(0xcd9e8d57u, c.z);
        c = vec4<u32>(high1 ^ c.y ^ key.x, 0xcd9e8d57u * c.z, high0 ^ c.w ^ key.y, 0xd2511f53u * c.x);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// 24 bits, so that every value is exact in f32 and 1.0 is never reached.
fn philox_unit(word: u32) -> f32 {
    return f32(word >> 8u) * 5.9604644775390625e-8;
}

fn philox_uniform(index: u32, low: u32, high: u32, stream: u32, step: u32) -> f32 {
    return philox_unit(philox_block(index, low, high, stream, step, 0u).x);
}

// 1 - u lies in (0, 1], so that its logarithm is finite; `max` because a driver's log(1) may lie above zero.
fn philox_normal(index: u32, low: u32, high: u32, stream: u32, step: u32) -> f32 {
    let words = philox_block(index, low, high, stream, step, 1u);
    let radius = sqrt(max(-2.0 * log(1.0 - philox_unit(words.x)), 0.0));
    return radius * cos(6.2831853 * philox_unit(words.y));
}
