systemd-sysusers kafkeep.conf || :
chown root:kafkeep /etc/kafkeep /etc/kafkeep/policies.d
chmod 0750 /etc/kafkeep /etc/kafkeep/policies.d
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
