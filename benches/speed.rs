//! The benchmark of networks and of the entropy coder in Wasm: a module without imports that `tests/browser/speed.mjs` loads and times. It is not the engine, so
//! that the engine carries nothing of it.

fn main() {}

#[cfg(target_arch = "wasm32")]
#[path = "architectures/mod.rs"]
mod architectures;
#[cfg(target_arch = "wasm32")]
#[path = "coder/mod.rs"]
mod planes;

#[cfg(target_arch = "wasm32")]
mod exports {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        cell::RefCell,
        hint::black_box,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use waterfill::nn::{
        Network,
        kernel::{
            Matrix, product,
            tile::{Narrow, Tile},
        },
    };

    use super::{architectures, planes};

    /// Counts bytes.
    struct Counting;

    static LIVE: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: everything is passed on to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
            unsafe { System.alloc(layout) }
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
            unsafe { System.alloc_zeroed(layout) }
        }
        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            LIVE.fetch_sub(layout.size(), Relaxed);
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    thread_local! {
        static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    }

    thread_local! {
        static CODED: RefCell<(bool, Vec<u8>, Vec<i32>)> = const { RefCell::new((false, Vec::new(), Vec::new())) };
    }

    /// Codes a plane of indices for [`decode`]; gives its bits per weight.
    #[unsafe(no_mangle)]
    extern "C" fn encode(scale: f32, signs: bool) -> f64 {
        let bytes = planes::encode(&planes::indices(scale), signs);
        let rate = 8.0 * bytes.len() as f64 / planes::WEIGHTS as f64;
        CODED.set((signs, bytes, vec![0; planes::WEIGHTS]));
        rate
    }

    /// Decodes it; gives its number of weights.
    #[unsafe(no_mangle)]
    extern "C" fn decode() -> f64 {
        CODED.with_borrow_mut(|(signs, bytes, indices)| {
            planes::decode(bytes, *signs, indices);
            black_box(indices).len() as f64
        })
    }

    /// Builds network `which` of [`architectures::ALL`] and gives its multiplications.
    #[unsafe(no_mangle)]
    extern "C" fn build(which: usize, images: usize) -> f64 {
        let network = architectures::network(architectures::ALL[which].0, images);
        let multiplications = network.multiplications() as f64;
        NETWORK.set(Some(network));
        multiplications
    }

    /// Runs it forward, or forward and back.
    #[unsafe(no_mangle)]
    extern "C" fn run(gradient: bool) {
        NETWORK.with_borrow(|network| architectures::run(network.as_ref().expect("built before"), gradient));
    }

    /// Most bytes alive since the last call, above those alive then: without the weights, with their gradients.
    #[unsafe(no_mangle)]
    extern "C" fn peak() -> f64 {
        static SINCE: AtomicUsize = AtomicUsize::new(0);
        let live = LIVE.load(Relaxed);
        (PEAK.swap(live, Relaxed) - SINCE.swap(live, Relaxed)) as f64
    }

    /// Tiles of the kernel alone, on panels that stay in the first cache; gives multiplications.
    #[unsafe(no_mangle)]
    extern "C" fn tiles(count: usize) -> f64 {
        let (a, b) = (architectures::noise(256 * 4, 1), architectures::noise(256 * 8, 2));
        for _ in 0..count {
            black_box(Narrow.product(black_box(&a), black_box(&b)));
        }
        (count * 256 * 4 * 8) as f64
    }

    /// Products of 256×256 matrices; gives multiplications.
    #[unsafe(no_mangle)]
    extern "C" fn products(count: usize) -> f64 {
        let (a, b, mut c) = (architectures::noise(65536, 1), architectures::noise(65536, 2), vec![0.0; 65536]);
        for _ in 0..count {
            product(256, 256, 256, Matrix::rows(&a, 256), Matrix::rows(&b, 256), &mut c, 256, false);
            black_box(&c);
        }
        (count * 256 * 256 * 256) as f64
    }
}
