//! Runs in a worker in a browser: the engine's build with threads.
#![cfg(all(target_arch = "wasm32", feature = "threads"))]

#[path = "golden_file/mod.rs"]
mod golden_file;

use std::{collections::BTreeSet, sync::Barrier};

use rayon::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// There is one pool, so there is one test that starts it.
#[wasm_bindgen_test]
async fn the_pool_runs_in_a_worker() {
    JsFuture::from(wasm_bindgen_rayon::init_thread_pool(2)).await.expect("the pool starts");
    assert_eq!(rayon::current_num_threads(), 2);
    // Two tasks that each wait for the other one end only if two threads run at the same time.
    let barrier = Barrier::new(2);
    let threads = rayon::broadcast(|context| {
        barrier.wait();
        context.index()
    });
    assert_eq!(threads.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
    // The calling worker is not one of them: it waits, and the result comes back to it.
    assert_eq!(rayon::current_thread_index(), None);
    let squares: Vec<u64> = (0..100_000u64).into_par_iter().map(|x| x * x).collect();
    assert!(squares.into_iter().eq((0..100_000u64).map(|x| x * x)));
}

#[wasm_bindgen_test]
fn decoded_bits_are_the_same_as_natively() {
    golden_file::check();
}
