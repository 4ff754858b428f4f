//! Binds the direct AES-GCM interface of libipsec-mb and its jobs, when the feature asks for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "ipsec-mb")]
    ipsec_mb();
}

#[cfg(feature = "ipsec-mb")]
#[expect(clippy::expect_used, reason = "a build that can't go on says why")]
fn ipsec_mb() {
    use std::path::PathBuf;

    // Debian's package has no pkg-config file up to 1.5; other distributions do.
    let include: Vec<String> = match pkg_config::Config::new().atleast_version("1.3").probe("libipsec-mb") {
        Ok(library) => library.include_paths.iter().map(|path| format!("-I{}", path.display())).collect(),
        Err(_) => {
            println!("cargo::rustc-link-lib=IPSec_MB");
            Vec::new()
        }
    };
    let bindings = bindgen::Builder::default()
        .header_contents("engine.h", "#include <intel-ipsec-mb.h>")
        .clang_args(include)
        // Without it the header leaves out the alignment of the key schedule.
        .clang_arg("-DLINUX")
        .allowlist_function("imb_get_mb_mgr_size|imb_set_pointers_mb_mgr|init_mb_mgr_auto|imb_get_errno")
        .allowlist_type("IMB_MGR|IMB_JOB|gcm_key_data|gcm_context_data|IMB_ARCH")
        .allowlist_var("IMB_FEATURE_.*|IMB_ARCH_.*|IMB_VERSION_NUM")
        .no_copy("gcm_key_data|gcm_context_data|IMB_MGR|IMB_JOB")
        .no_debug("gcm_key_data|gcm_context_data|IMB_MGR|IMB_JOB")
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(false)
        .generate()
        .expect("libipsec-mb-dev (1.3 or later) and libclang are needed for the feature ipsec-mb");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out.join("ipsec_mb.rs")).expect("OUT_DIR is writable");
}
