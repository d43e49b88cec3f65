# $1 is how many versions are left: 0 when it is erased, not upgraded.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now kafkeep.service || :
fi
