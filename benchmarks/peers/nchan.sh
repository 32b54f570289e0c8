#!/bin/sh
# replay: /replay/{t}
# no-stream: it sends what is published, and makes nothing itself
# no-produce: likewise
cat > "$WORK/nchan.conf" <<CONF
load_module ${NGINX_MODULES:-/usr/lib/nginx/modules}/ngx_nchan_module.so;
daemon off; worker_processes 1; pid $WORK/nchan.pid; error_log $WORK/nchan.err warn; worker_rlimit_nofile 20000;
events { worker_connections 16000; multi_accept on; }
http {
  access_log off; nchan_shared_memory_size 512M; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path $WORK/b; proxy_temp_path $WORK/p; fastcgi_temp_path $WORK/f; uwsgi_temp_path $WORK/u; scgi_temp_path $WORK/s;
  server {
    listen 127.0.0.1:$PORT backlog=4096;
    location ~ ^/subscribe/(\w+)\$ {
      nchan_subscriber eventsource; nchan_channel_id \$1; nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval 15; nchan_eventsource_ping_comment "ping"; nchan_eventsource_ping_event "";
    }
    location ~ ^/replay/(\w+)\$ { nchan_subscriber eventsource; nchan_channel_id \$1; nchan_subscriber_first_message oldest; }
    location ~ ^/publish/(\w+)\$ { nchan_publisher; nchan_channel_id \$1; nchan_message_buffer_length 20000; }
  }
}
CONF
exec nginx -c "$WORK/nchan.conf" -p "$WORK"
