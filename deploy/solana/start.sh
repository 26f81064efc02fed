#!/bin/sh
# Start the validator with the five programs at their localnet ids (docs/reference/abi.md, Constants).
set -eu
exec solana-test-validator \
    --ledger /ledger --rpc-port 8899 --faucet-port 9900 --bind-address 0.0.0.0 --limit-ledger-size 50000000 \
    --bpf-program 7AoYryE5g7pT8s7PP88Sphjfh5JXP9TKciMrmb8v9RPm /programs/governance.so \
    --bpf-program 8iWunPZx3ukgndBsB7e8hHcs73XnyWQY2uQpLW8hbsvE /programs/registry.so \
    --bpf-program Df8xFSesMCEUVeFkFhH2yXAjzjCxnjnhhb55FqHA6Fwx /programs/energy-token.so \
    --bpf-program 3kp3ApMRoBVw77KCp9oRG7EQ5Ra4GANj29knHe9Vjqdo /programs/trading.so \
    --bpf-program 38LqnUzGLqkMQRvDoYsqrbMCu98oQ6564PFdZfuUf7p9 /programs/oracle.so
