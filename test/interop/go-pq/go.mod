module headgate.test/gopq

go 1.25
