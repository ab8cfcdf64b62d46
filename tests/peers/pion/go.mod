module pion-receiver

go 1.19
