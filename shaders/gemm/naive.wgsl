// C = A·B, one invocation an element of C, nothing shared: slow, plain, and the reference for the other variants.
//
// Put in front: M, N, K, BATCH, THREADS, GROUPS_X, GROUPS_Y; side_a(batch, i), depth_a(p), load_a(side, depth), the same for
// b with j; epilogue(batch, i, j, product). A side and a depth are the halves of an address.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let element = (group.x + (group.y + group.z * GROUPS_Y) * GROUPS_X) * THREADS + local;
    if element >= BATCH * M * N {
        return;
    }
    let batch = element / (M * N);
    let i = element / N % M;
    let j = element % N;
    let row = side_a(batch, i);
    let column = side_b(batch, j);
    var sum = 0.0;
    for (var p = 0u; p < K; p += 1u) {
        sum += load_a(row, depth_a(p)) * load_b(column, depth_b(p));
    }
    epilogue(batch, i, j, sum);
}
