#!/bin/sh
# Start Alertmanager with whom deploy/.env names: alertmanager.sh FOLDER [ARGUMENT...]
# The configuration is made in FOLDER, which holds secrets then; where nobody is named, FOLDER/nobody says so.
set -eu
umask 077
folder=$1
shift
config=$folder/alertmanager.yml
rm -f "$folder/nobody"
if [ -n "${ALERT_EMAIL_TO:-}" ]; then
    : "${ALERT_SMTP_HOST:?is missing: ALERT_EMAIL_TO needs a server, such as smtp.example.com:587}"
fi

quoted() { # A YAML string of whatever text.
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

told=
{
    echo "route:"
    echo "  receiver: everybody"
    # funnelwatch says one alert_id an incident: what belongs together has been brought together there.
    echo "  group_by: [alertname, funnel, alert_id]"
    echo "  group_wait: 5s"
    echo "  group_interval: 1m"
    echo "  repeat_interval: 4h"
    if [ -n "${ALERT_PAGERDUTY_KEY:-}" ]; then
        told="$told PagerDuty"
        echo "  routes:"
        echo "    - matchers: ['severity = \"critical\"']"
        echo "      receiver: page"
        echo "      continue: true"
        echo "    - receiver: everybody"
    fi
    echo "receivers:"
    if [ -n "${ALERT_PAGERDUTY_KEY:-}" ]; then
        echo "  - name: page"
        echo "    pagerduty_configs:"
        echo "      - routing_key: $(quoted "$ALERT_PAGERDUTY_KEY")"
        echo "        severity: critical"
        echo "        description: '{{ .CommonAnnotations.description }}'"
        echo "        client: funnelwatch"
        echo "        client_url: '{{ (index .Alerts 0).GeneratorURL }}'"
    fi
    echo "  - name: everybody"
    if [ -n "${ALERT_SLACK_URL:-}" ]; then
        told="$told Slack"
        echo "    slack_configs:"
        echo "      - api_url: $(quoted "$ALERT_SLACK_URL")"
        echo "        send_resolved: true"
        echo "        title: '{{ .CommonAnnotations.summary }}'"
        echo "        text: '{{ .CommonAnnotations.description }}'"
    fi
    if [ -n "${ALERT_EMAIL_TO:-}" ]; then
        told="$told email"
        echo "    email_configs:"
        echo "      - to: $(quoted "$ALERT_EMAIL_TO")"
        echo "        from: $(quoted "${ALERT_EMAIL_FROM:-$ALERT_EMAIL_TO}")"
        echo "        smarthost: $(quoted "$ALERT_SMTP_HOST")"
        echo "        send_resolved: true"
        echo "        headers:"
        echo "          Subject: '{{ .CommonAnnotations.description }}'"
        if [ -n "${ALERT_SMTP_USER:-}" ]; then
            echo "        auth_username: $(quoted "$ALERT_SMTP_USER")"
            echo "        auth_password: $(quoted "${ALERT_SMTP_PASSWORD:-}")"
        fi
    fi
    if [ -n "${ALERT_WEBHOOK_URL:-}" ]; then
        told="$told webhook"
        echo "    webhook_configs:"
        echo "      - url: $(quoted "$ALERT_WEBHOOK_URL")"
    fi
} > "$config"

if [ -n "$told" ]; then
    echo "alerts are told by:$told" >&2
elif [ "${ALERT_NOBODY:-}" = yes ]; then
    echo "alerts are shown here and told to nobody, as ALERT_NOBODY=yes says" >&2
else
    echo "ALERTS ARE TOLD TO NOBODY: name somebody in deploy/.env (ALERT_...), or say ALERT_NOBODY=yes" |
        tee "$folder/nobody" >&2
fi
exec alertmanager --config.file="$config" "$@"
