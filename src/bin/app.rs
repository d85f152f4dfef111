//! The page's program: Wasm, main thread.

fn main() {
    #[cfg(target_arch = "wasm32")]
    {
        console_error_panic_hook::set_once();
        waterfill::ui::mount();
    }
}
