# Sourced: lets packages be installed on a Debian-like system without the start of the services that they bring.
#
#   forbid_services    from here on; undone by restore_policy, and when the shell ends
#   restore_policy     also after an earlier run that was cut short

POLICY=/usr/sbin/policy-rc.d
POLICY_SAVED=$POLICY.saved-by-otpost

# Debian's packages ask this file before they start a service; 101 means "no".
forbid_services() {
    restore_policy
    trap restore_policy EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -e "$POLICY" ]; then
        mv "$POLICY" "$POLICY_SAVED"
    else
        # Empty: there was none. It also tells the next run of one that was cut short.
        : >"$POLICY_SAVED"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_policy() {
    if [ -s "$POLICY_SAVED" ]; then
        mv -f "$POLICY_SAVED" "$POLICY"
    elif [ -e "$POLICY_SAVED" ]; then
        rm -f "$POLICY" "$POLICY_SAVED"
    fi
}
