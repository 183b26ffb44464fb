# Two commands do everything on a fresh machine; `cargo xtask --help` has the rest.

.PHONY: demo test

# An image runs as a real microVM behind HTTPS, is healed after a kill and found again after a restart.
demo:
	cargo xtask demo

# Installs what the tests need and passes all of them.
test:
	cargo xtask test
