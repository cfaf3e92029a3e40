#!/usr/bin/env bash
# A Ray head on this workstation that sees all its GPUs and outlives your terminals.
#
#   deploy/local/head.sh               # all cores, all GPUs
#   deploy/local/head.sh --num-gpus=2  # options go to `ray start`
#
# Ends with Ctrl-C. A run that was going on is continued by submitting it again.
set -euo pipefail

# The token is what keeps other users of this machine and of its network from running code as you: Ray's
# own ports listen on every interface even when it is given 127.0.0.1. Made once, readable by you alone.
export RAY_AUTH_MODE=token
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [[ -z ${RAY_AUTH_TOKEN:-} && ! -s $token ]]; then
    mkdir -p -- "$(dirname -- "$token")"
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$token")
fi

# Dashboard, jobs and metrics: on loopback. From elsewhere: ssh -L 8265:127.0.0.1:8265 this-machine
exec ray start --head --block --disable-usage-stats \
    --node-ip-address=127.0.0.1 --dashboard-host=127.0.0.1 "$@"
